//! The config file: strict TOML, one file per role.
