"""Training settings as data: one YAML file per recipe, read by :func:`ecg_hf.training.recipe.load_recipe`."""
