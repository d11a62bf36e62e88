"""ECG and text: a backbone and a text tower whose embeddings of a record and its report are aligned."""

# First of all: AutoConfig loads the configurations of all methods, and while it does the family's common one, which
# needs AutoConfig, must not be half there.
import transformers.models.auto.configuration_auto  # noqa: F401
