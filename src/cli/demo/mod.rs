//! `sekimori demo`: a daemon on embedded settings in a fresh folder hands itself sample mails over
//! real LMTP, and each must lie where its row says.

mod check;
mod samples;
mod sink;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;

use self::samples::{SAMPLES, Sample};
use self::sink::Sink;
use super::check::refused;
use super::run::{not_started, runtime};
use super::{Done, Exit, Failure, Global, text};
use crate::config;
use crate::daemon::Daemon;
use crate::deliver::{Content, Delivery, Endpoint, HopSettings, Pool, Protocol, Recipient, Tls};
use crate::mail::{Address, ReversePath, edit};
use crate::telemetry;

/// How long the courier may take for all samples.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// End after the table, instead of staying up
    #[arg(long)]
    exit: bool,
}

pub(super) fn demo(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    let folder = fresh_folder().map_err(|error| Failure::io("demo folder", &error))?;
    runtime()?.block_on(show(global, options, &folder, out))
}

async fn show(global: &Global, options: &Options, folder: &Path, out: &mut dyn Write) -> Done {
    let sink = Sink::start(folder.join("relay"))
        .await
        .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let file = write_settings(folder, sink.port())
        .map_err(|error| Failure::io(folder.display(), &error))?;
    let loaded = config::load(&file).map_err(|errors| refused(&errors))?;
    telemetry::init(&loaded.config.logging).map_err(|error| Failure::io("logging", &error))?;
    let daemon = Daemon::start(loaded.config, Some(file.clone()))
        .await
        .map_err(|error| not_started(&error))?;
    let (_, lmtp) = daemon
        .server()
        .addresses()
        .first()
        .cloned()
        .ok_or_else(|| Failure::new(Exit::Software, "no listener"))?;
    if !global.json && !global.quiet {
        writeln!(out, "folder  {}\nlmtp    {lmtp}\n", folder.display())?;
    }
    let pool = Pool::new(HopSettings {
        protocol: Protocol::Lmtp,
        endpoint: Endpoint::Tcp {
            host: lmtp.ip().to_string(),
            port: lmtp.port(),
        },
        hostname: "localhost".into(),
        tls: Tls::None,
        auth: None,
        timeout: Duration::from_secs(60),
        max_connections: 1,
    });
    let mut handed = Vec::new();
    for sample in SAMPLES {
        handed.push(hand_over(&pool, sample).await?);
    }
    wait_for_courier(&daemon).await?;
    let wrong = table(global, folder, &daemon, &handed, out)?;
    out.flush()?;
    if !options.exit {
        stay(global, &file, out).await?;
    }
    daemon.stop().await;
    sink.stop().await;
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Software,
            format!("{wrong} mails are not where they should be"),
        )),
    }
}

/// One recipient's reply to a sample.
pub(super) struct Handed {
    sample: &'static Sample,
    recipient: &'static str,
    reply: String,
}

impl Handed {
    /// `q=`, `verdict=` or `stage=` of the reply.
    fn word(&self, name: &str) -> &str {
        self.reply
            .split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or("")
    }
}

async fn hand_over(pool: &Pool, sample: &'static Sample) -> Result<Vec<Handed>, Failure> {
    let bad = |text: &str| {
        Failure::new(
            Exit::Software,
            format!("{}: no address: {text}", sample.name),
        )
    };
    let address = |text: &str| Address::parse(text).map_err(|_| bad(text));
    let message = Bytes::from(sample.message.replace('\n', "\r\n"));
    let recipients: Vec<_> = sample
        .expected
        .iter()
        .map(|(recipient, ..)| *recipient)
        .collect();
    let delivery = Delivery {
        sender: ReversePath::Address(address(sample.sender)?),
        recipients: recipients
            .iter()
            .map(|text| {
                Ok(Recipient {
                    address: address(text)?,
                    mailbox: address(text)?,
                    key: String::new(),
                    maybe_there: false,
                })
            })
            .collect::<Result<_, Failure>>()?,
        content: Content::new(Vec::new(), message.clone(), edit::header_length(&message)),
        smtputf8: false,
        eight_bit: true,
        deadline: None,
        under_way: None,
    };
    let outcomes = pool.send(&delivery).await;
    let reply = |outcome: crate::deliver::Outcome| match outcome {
        Ok(accepted) => accepted.reply.map(|reply| reply.text).unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    let handed = recipients.into_iter().zip(outcomes);
    Ok(handed
        .map(|(recipient, outcome)| Handed {
            sample,
            recipient,
            reply: reply(outcome),
        })
        .collect())
}

async fn wait_for_courier(daemon: &Daemon) -> Done {
    let started = Instant::now();
    while daemon.shared().store().outgoing_count() > 0 {
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(Exit::Software, "outgoing mail was not sent"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn table(
    global: &Global,
    folder: &Path,
    daemon: &Daemon,
    handed: &[Vec<Handed>],
    out: &mut dyn Write,
) -> Result<usize, Failure> {
    let mut wrong = 0;
    for handed in handed.iter().flatten() {
        let row = check::row(folder, daemon.shared().store(), handed);
        wrong += usize::from(!row.as_expected);
        if global.json {
            writeln!(out, "{}", row.json())?;
        } else {
            writeln!(out, "{}", row.text())?;
        }
    }
    if !global.json {
        let all: usize = handed.iter().map(Vec::len).sum();
        writeln!(
            out,
            "\n{all} answers for {} mails, {wrong} not as they should be",
            handed.len()
        )?;
    }
    Ok(wrong)
}

async fn stay(global: &Global, file: &Path, out: &mut dyn Write) -> Done {
    if !global.quiet {
        writeln!(
            out,
            "\nstaying up; in another terminal: sekimori --config {} quarantine list",
            file.display()
        )?;
        writeln!(out, "Ctrl-C ends it")?;
        out.flush()?;
    }
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Failure::io("signals", &error))
}

fn fresh_folder() -> std::io::Result<PathBuf> {
    let id = crate::store::Id::new(jiff::Timestamp::now().as_millisecond());
    let folder = std::env::temp_dir().join(format!("sekimori-demo-{id}"));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

fn write_settings(folder: &Path, relay: u16) -> std::io::Result<PathBuf> {
    let mailboxes = folder.join("mailboxes/east.example.jp");
    std::fs::create_dir_all(&mailboxes)?;
    for (name, text) in samples::MAILBOXES {
        std::fs::write(mailboxes.join(name), text)?;
    }
    let file = folder.join("sekimori.yaml");
    std::fs::write(
        &file,
        samples::SETTINGS.replace("%{relay}", &relay.to_string()),
    )?;
    Ok(file)
}
