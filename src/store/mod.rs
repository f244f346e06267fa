//! The bucket itself: one trait with its atomicity contract, S3, and a directory.
