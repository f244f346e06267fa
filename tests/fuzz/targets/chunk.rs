#![no_main]

#[allow(dead_code, unused_imports, reason = "the other targets")]
#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::chunk(data));
