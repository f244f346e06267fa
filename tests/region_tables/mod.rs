//! Which tables a region has: its own list, the stream's set, and what happens when one of them changes. Real servers;
//! changes of the set are put into the index as upload puts them there, so that a test says exactly where.

mod added;
mod bootstrap;
mod kills;
mod kit;
mod left_out;
mod own;
mod ties;
