"""ST-MEM: spatio-temporal masked electrocardiogram modelling (arXiv 2402.09450)."""
