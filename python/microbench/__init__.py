"""microbench: times the basic operations of deep learning and says how far the numbers can be trusted."""

__version__ = "0.1.0"
