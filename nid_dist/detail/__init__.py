"""Detail experts: B-splines of compact support on grids, made when a signal is fitted and never trained."""
