//! MySQL's client protocol on a socket: packets, handshake, TLS, authentication.
