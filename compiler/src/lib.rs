//! The driver library.
