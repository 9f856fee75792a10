"""The commands of DEEPaaS 2.6, answered by Volvox; the distribution `volvox-deepaas` gives them their names."""

COMPATIBLE = "2.6.0"  # what `--version` answers: the version whose command line, interface and API these are
