//! The command line of bitc: see the library's `cli` module.

fn main() -> std::process::ExitCode {
    bitc::cli::main(std::env::args_os())
}
