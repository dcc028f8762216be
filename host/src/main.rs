//! The `sandbar` binary: parse, run, print the error with its causes, choose the exit code.
//!
//! Everything that it can do is in the library; everything that it can be told is in [`cli`].

use std::process::ExitCode;

mod cli;

/// Messages are made on one thread and freed on another, which is what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refused) => return refused,
    };
    let ended = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(sandbar::guest::STACKS.end() + (2 << 20))
        .build()
    {
        Ok(runtime) => {
            let ended = runtime.block_on(command.run());
            // A read of standard input that nobody waits for any more would hold up the end.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(anyhow::Error::new(error).context("the runtime cannot be started")),
    };
    match ended {
        Ok(ended) => ended.exit_code(),
        Err(error) => cli::report(&error),
    }
}
