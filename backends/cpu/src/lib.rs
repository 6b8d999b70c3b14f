//! The CPU backend.
#![deny(unsafe_code)]
