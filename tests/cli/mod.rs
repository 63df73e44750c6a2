//! The contract of the command line.
