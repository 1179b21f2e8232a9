//! The command `equimod`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: equimod::Allocator = equimod::Allocator;

fn main() -> ExitCode {
    equimod::run_with(&[])
}
