"""Physical removal: from a dense network and a structure to the small network, proved."""
