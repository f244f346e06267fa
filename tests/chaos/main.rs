//! The machine that attacks the invariants, as a program: `scripts/chaos` builds and runs it.

#[path = "mod.rs"]
mod chaos;
#[path = "../support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    chaos::runs::main()
}
