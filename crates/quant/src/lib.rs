//! fixnet-quant
