//! The commented files that `tablecast init` writes.

use super::Role;

/// The whole file for a role: valid as it is, every optional key there as a comment.
pub fn template(role: Role) -> &'static str {
    match role {
        Role::Source => include_str!("source.toml"),
        Role::Region => include_str!("region.toml"),
    }
}
