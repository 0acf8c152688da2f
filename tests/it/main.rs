//! Integration tests on real sockets.
