//! fixnet-nn
