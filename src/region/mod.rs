//! The regional MySQL: preflight, position, gate, apply. Never imports `source`.
