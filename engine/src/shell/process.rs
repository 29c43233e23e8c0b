//! A running program: its host, its HTTP server, its log lines. Owns their order at start and end.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::options::{LogFormat, Settings};
use super::targets::HostQueries;
use super::{Application, Program, ShellError, build};
use crate::config::StreamsConfig;
use crate::query::{HttpOptions, HttpServer, Route};
use crate::runtime::{self, Host, HostView};
use crate::time::SystemClock;

/// How long HTTP requests may take to finish when everything else has.
const HTTP_STOP: Duration = Duration::from_secs(5);

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    host: Host,
    http: Option<HttpServer>,
}

impl Process {
    /// Starts a program's applications and its HTTP server, and prints where it can be asked.
    pub(super) fn start(
        program: &Program,
        settings: &Settings,
        out: &mut dyn Write,
    ) -> Result<Self, ShellError> {
        log_to_stderr(settings.log_format);
        let mut config = settings.environment.host.clone();
        let mut applications = Vec::new();
        let mut routes: Vec<(Arc<str>, Arc<dyn Route>)> = Vec::new();
        for application in &program.applications {
            let id = application_id(program, application, settings);
            let mut own = StreamsConfig::new(application.id);
            settings.environment.apply(&mut own);
            own.application_id.clone_from(&id);
            let topology = build(application)?;
            applications.push(runtime::Application { topology, config: own });
            let id: Arc<str> = id.into();
            routes.extend(application.routes.iter().map(|r| (Arc::clone(&id), Arc::clone(r))));
        }
        let options = config.http.map(|address| HttpOptions {
            token: config.http_token.clone(),
            insecure: config.insecure,
            ..HttpOptions::at(address)
        });
        config.http = options.as_ref().map(|options| options.address);
        let host = Host::start(config, applications)?;
        host.listen_to_signals()?;
        let http = match options {
            None => None,
            Some(options) => match serve(host.view(), &routes, options) {
                Ok(http) => Some(http),
                Err(error) => {
                    host.stop();
                    host.wait()?;
                    return Err(error);
                }
            },
        };
        let process = Self { host, http };
        process.announce(program, out)?;
        Ok(process)
    }

    fn announce(&self, program: &Program, out: &mut dyn Write) -> Result<(), ShellError> {
        let view = self.view();
        let ids: Vec<&str> = view.applications.iter().map(|s| &**s.application()).collect();
        let (ids, memory) = (ids.join(", "), view.memory);
        writeln!(out, "{}: applications {ids}", program.name)?;
        writeln!(out, "log: {}, state in {}", view.log.kind(), view.config.state_dir.display())?;
        writeln!(out, "memory: {memory}")?;
        match self.address() {
            Some(address) => writeln!(out, "listening on http://{address}")?,
            None => writeln!(out, "HTTP is off")?,
        }
        Ok(out.flush()?)
    }

    /// What runs.
    pub fn view(&self) -> &HostView {
        self.host.view()
    }

    /// Where the HTTP server listens, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::address)
    }

    /// A signal came or an application failed: a command is to return.
    pub fn is_stopping(&self) -> bool {
        self.host.is_stopping()
    }

    /// Commits everything and ends.
    pub(super) fn stop(self) -> Result<(), ShellError> {
        self.host.stop();
        self.wait()
    }

    /// Runs until a signal comes or an application fails.
    pub(super) fn wait(self) -> Result<(), ShellError> {
        // Reads are answered while the applications commit for the last time.
        let ended = self.host.wait();
        if let Some(http) = self.http {
            http.stop(HTTP_STOP);
        }
        Ok(ended?)
    }
}

/// The id an application runs under: another one can be given only to the only one.
pub(super) fn application_id(
    program: &Program,
    application: &Application,
    settings: &Settings,
) -> String {
    match &settings.environment.application_id {
        Some(id) if program.applications.len() == 1 => id.clone(),
        _ => application.id.to_owned(),
    }
}

fn serve(
    view: &HostView,
    routes: &[(Arc<str>, Arc<dyn Route>)],
    options: HttpOptions,
) -> Result<HttpServer, ShellError> {
    let target = Arc::new(HostQueries::new(view.clone()));
    let clock = Arc::new(SystemClock::new());
    Ok(HttpServer::start(target, routes, options, view.metrics.clone(), clock)?)
}

/// Log lines go to standard error. Whoever has set up tracing before keeps it.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    let set = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if set.is_err() {
        tracing::debug!("log lines go where they went before");
    }
}
