//! claviger
