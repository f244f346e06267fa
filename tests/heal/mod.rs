//! The whole system at work, each part a process of its own: a primary, a replica as the source, an S3 server, `serve`,
//! `upload --follow`, and `apply --follow` in two regions, while an application writes and others read.

mod bucket;
mod drift;
pub mod system;
