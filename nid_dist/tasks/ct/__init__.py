"""CT: phantoms, scans, reconstruction from few views, classical methods and comparison."""
