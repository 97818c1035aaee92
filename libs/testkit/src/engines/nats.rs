//! NATS with JetStream, from the Debian package.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::{
    program,
    server::{Kind, Place, Server, engine},
};

/// A running NATS server with JetStream on disk.
#[derive(Debug)]
pub struct Nats {
    server: Server<Kit>,
}

engine!(Nats, "NATS");

impl Nats {
    /// Starts a server.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Kit).await? })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.server.place.address())
    }

    /// Stops it and throws away its streams; the next restart begins with none.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn wipe(&mut self) -> Result<()> {
        self.server.stop().await?;
        fs::remove_dir_all(self.server.place.data())?;
        Ok(fs::create_dir(self.server.place.data())?)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("NATS_URL", self.url())]
    }
}

#[derive(Debug)]
struct Kit;

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "NATS";

    fn prepare(&self, place: &Place) -> Result<()> {
        Ok(fs::create_dir(place.data())?)
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(program("nats-server")?);
        command.args(["--addr", "127.0.0.1", "--port", &place.port.to_string(), "--jetstream"]);
        command.arg("--store_dir").arg(place.data());
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let greeted = async {
            let mut stream = TcpStream::connect(place.address()).await?;
            let mut greeting = [0; 6];
            stream.read_exact(&mut greeting).await?;
            std::io::Result::Ok(greeting == *b"INFO {")
        };
        matches!(timeout(Duration::from_secs(2), greeted).await, Ok(Ok(true)))
    }
}
