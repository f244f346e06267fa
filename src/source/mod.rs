//! The source MySQL: preflight, `stream init`, upload. Never imports `region`.
