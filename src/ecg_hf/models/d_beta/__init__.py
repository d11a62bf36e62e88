"""D-BETA, first named C-MELT: ECG and report through a shared fusion, four objectives (arXiv 2410.02131)."""
