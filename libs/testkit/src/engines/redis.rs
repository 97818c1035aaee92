//! Redis, from the Debian package.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    program,
    server::{Kind, Place, Server, engine},
};

const PASSWORD: &str = "only-for-tests";

/// A running Redis that keeps nothing on disk: after a restart it is empty, as a cache may be.
#[derive(Debug)]
pub struct Redis {
    server: Server<Kit>,
}

engine!(Redis, "Redis");

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Kit).await? })
    }

    /// Address with its password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@{}", self.server.place.address())
    }

    /// Port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.place.port
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("REDIS_HOST", "127.0.0.1".into()), ("REDIS_PORT", self.port().to_string()), ("REDIS_PASSWORD", PASSWORD.into())]
    }
}

#[derive(Debug)]
struct Kit;

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "Redis";

    fn prepare(&self, place: &Place) -> Result<()> {
        Ok(fs::create_dir(place.data())?)
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(program("redis-server")?);
        command.args(["--port", &place.port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD]);
        command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(place.data());
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(place.address()).await?;
            stream.write_all(format!("AUTH {PASSWORD}\r\n").as_bytes()).await?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(answer == *b"+OK\r\n")
        };
        matches!(timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
    }
}
