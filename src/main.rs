//! Owns the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    vqtok::internals::cli::main()
}
