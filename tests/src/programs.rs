//! The two programs under test: where their binaries are, how they are
//! started, when they are ready.

use crate::{
    Settings, http,
    process::{Launch, Process},
    stack::repository,
};
use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const READY_DEADLINE: Duration = Duration::from_secs(60);
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the programs over one warehouse folder.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder with the binaries.
    pub binaries: PathBuf,
    pub warehouse: PathBuf,
    pub settings: Settings,
    /// Where logs go and where the programs run.
    pub folder: PathBuf,
}

impl Programs {
    /// Starts dimsvc and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_dimsvc(&self) -> Result<Process> {
        self.start("dimsvc", "dimsvc", &["serve"], &[])
    }

    /// Starts dimsvc and waits until it is SERVING.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn dimsvc(&self) -> Result<Process> {
        let mut process = self.start_dimsvc()?;
        self.wait_serving(&mut process).await?;
        Ok(process)
    }

    /// Waits until dimsvc is SERVING.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn wait_serving(&self, dimsvc: &mut Process) -> Result<()> {
        let address = format!("http://{}", self.settings.get("dimsvc.listen")?);
        dimsvc.wait_ready(READY_DEADLINE, async || check_serving(&address).await).await
    }

    /// Starts layers in one process, as in `workers("ods,dwd", port)`; `port`
    /// is the one of its metrics and health.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_workers(&self, layers: &str, port: u16) -> Result<Process> {
        let mut programs = self.clone();
        programs.settings.set("workers.metrics_listen", format!("127.0.0.1:{port}"));
        let name = format!("workers-{}", layers.replace(',', "-"));
        programs.start(&name, "stream-workers", &["run"], &["--layers", layers])
    }

    /// [`Programs::start_workers`], and waits until its /readyz says yes.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn workers(&self, layers: &str, port: u16) -> Result<Process> {
        let mut process = self.start_workers(layers, port)?;
        let url = format!("http://127.0.0.1:{port}/readyz");
        process.wait_ready(READY_DEADLINE, async || http::get(&url)?.success().map(drop)).await?;
        Ok(process)
    }

    fn start(&self, name: &str, program: &str, before: &[&str], after: &[&str]) -> Result<Process> {
        let folder = self.warehouse.display().to_string();
        let arguments = before.iter().copied().chain([folder.as_str()]).chain(after.iter().copied());
        Process::start(&Launch {
            name,
            program: self.binaries.join(program),
            arguments: arguments.map(String::from).collect(),
            settings: &self.settings,
            folder: &self.folder,
        })
    }
}

/// The folder with dimsvc and stream-workers: `TIDEMARK_BIN_DIR`, else where
/// this program's own build puts them. Under `cargo test` they are built first,
/// once a process; cargo's own lock orders processes.
///
/// # Errors
/// When they are not there and cannot be built.
pub fn binaries() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| find_or_build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn find_or_build() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TIDEMARK_BIN_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let this = std::env::current_exe().context("find this program")?;
    let folder = this.parent().context("a program is in a folder")?;
    // A test binary lies in `deps/` of the profile's folder.
    if !folder.ends_with("deps") {
        let there = ["dimsvc", "stream-workers"].iter().all(|program| folder.join(program).is_file());
        ensure!(there, "no dimsvc and stream-workers in {}: run `cargo build --bins`", folder.display());
        return Ok(folder.to_owned());
    }
    let profile = folder.parent().context("deps/ has a parent")?;
    build(profile)?;
    Ok(profile.to_owned())
}

fn build(profile: &Path) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository()).args(["build", "-p", "dimsvc", "-p", "stream-workers", "--bins"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let said = cargo.output().context("run cargo build")?;
    ensure!(said.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

async fn check_serving(address: &str) -> Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(address.to_owned())
        .context("read dimsvc's address")?
        .connect_timeout(CALL_DEADLINE)
        .timeout(CALL_DEADLINE)
        .connect()
        .await
        .context("connect to dimsvc")?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await.context("ask for dimsvc's health")?;
    let status = answer.into_inner().status();
    ensure!(status == ServingStatus::Serving, "dimsvc is {}", status.as_str_name());
    Ok(())
}
