"""One chart, one function: records and arrays in, a `Chart` out."""
