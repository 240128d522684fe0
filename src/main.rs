//! Arguments to verb to exit code; everything else is in the library.

/// Also serves librdkafka's allocations least badly: fast for many small, short-lived buffers from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    meterd::cli::main(std::env::args_os())
}
