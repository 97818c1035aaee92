//! The one thread that starts processes which must end with this one.
//!
//! Linux ends such a child with the *thread* that started it, not with the process. A thread of a test or of a runtime
//! may be gone long before the last test is.

use std::{
    io,
    process::{Child, Command},
    sync::{
        LazyLock, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

type Birth = (Command, Sender<io::Result<Child>>);

static NURSERY: LazyLock<Mutex<Sender<Birth>>> = LazyLock::new(|| {
    let (sender, births) = channel::<Birth>();
    thread::spawn(move || {
        for (mut command, reply) in births {
            // Nobody waits any more only when that thread has panicked.
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(sender)
});

/// Starts a process from a thread that lives as long as this process.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let (reply, child) = channel();
    let nursery = NURSERY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    nursery.send((command, reply)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
