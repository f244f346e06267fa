//! The protocol of the bucket, simulated: uploads, dumps, resyncs, prune, pauses and regions on one store, in any order,
//! with anything failing and anybody killed between any two of their requests.
//!
//! What runs is the product's own code, from the head's compare-and-swap to a region's check of its position; only
//! MySQL is stood in for. Every state of the bucket is held against the invariants as it comes about (`judge`), and in the
//! end, when nothing fails any more, everybody must come through (`scene`).
//!
//! A schedule follows from its seed. `TABLECAST_SEED` and `TABLECAST_SCHEDULES` say where to begin and how many to try.

mod actors;
mod bucket;
mod engine;
mod judge;
mod region;
mod scene;
mod schedule;
mod source;
mod tests;
mod world;
