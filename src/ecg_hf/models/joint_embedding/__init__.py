"""Methods that compare embeddings of two views of a record: one backbone, one set of views, one head, many losses."""
