//! The `apify-mirror` program; see the library for everything.

fn main() -> std::process::ExitCode {
    apify_mirror::cli::main().into()
}
