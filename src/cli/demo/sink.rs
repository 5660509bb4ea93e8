//! The demo's relay: our own SMTP listener that writes each mail into a folder.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::mail::{Address, Envelope, Octets, Protocol, ReversePath};
use crate::server::{Handoff, ListenerSettings, Server, ServerError, Timeouts};
use crate::smtp::{Answer, BareNewline, Limits, ListenAddress, Reply};
use crate::store::Id;

pub(super) struct Sink {
    server: Server,
}

impl Sink {
    pub(super) async fn start(folder: PathBuf) -> Result<Self, ServerError> {
        let listener = ListenerSettings {
            name: "demo-relay".into(),
            protocol: Protocol::Smtp,
            address: ListenAddress::Tcp {
                host: "127.0.0.1".into(),
                port: 0,
            },
            clients: "127.0.0.0/8".parse().into_iter().collect(),
            tls: None,
            bare_newline: BareNewline::Reject,
            max_connections: 20,
            timeouts: Timeouts {
                command: Duration::from_secs(300),
                data_block: Duration::from_secs(180),
                final_reply: Duration::from_secs(60),
            },
            limits: Limits {
                message_size: 50 << 20,
                recipients: 100,
                errors: 20,
            },
            hostname: "relay.example".into(),
            default_domain: None,
        };
        let server = Server::start(
            vec![listener],
            64 << 20,
            folder.clone(),
            Arc::new(Folder(folder)),
        )
        .await?;
        Ok(Self { server })
    }

    pub(super) fn port(&self) -> u16 {
        self.server
            .addresses()
            .first()
            .map_or(0, |(_, address)| address.port())
    }

    pub(super) async fn stop(self) {
        self.server.shutdown(Duration::from_secs(1)).await;
    }
}

/// One file a recipient: `<folder>/<recipient>/<id>.eml`.
struct Folder(PathBuf);

impl Folder {
    fn keep(&self, recipient: &Address, raw: &Octets) -> std::io::Result<Id> {
        let id = Id::new(jiff::Timestamp::now().as_millisecond());
        let folder = self.0.join(recipient.key().replace('/', "_"));
        std::fs::create_dir_all(&folder)?;
        let mut file = File::create(folder.join(format!("{id}.eml")))?;
        raw.each(0, |piece| file.write_all(piece))?;
        Ok(id)
    }
}

impl Handoff for Folder {
    async fn mail(&self, _sender: &ReversePath, _declared_size: Option<u64>) -> Result<(), Reply> {
        Ok(())
    }

    async fn recipient(&self, _address: &Address) -> Result<(), Reply> {
        Ok(())
    }

    async fn message(&self, envelope: Envelope, raw: Octets) -> Vec<Answer> {
        let keep = |recipient| match self.keep(recipient, &raw) {
            Ok(id) => Answer::Taken {
                id: id.to_string(),
                verdict: "deliver",
                stage: None,
            },
            Err(error) => Answer::Refused(Reply::new(451, 3, 0, error.to_string())),
        };
        envelope.recipients.iter().map(keep).collect()
    }
}
