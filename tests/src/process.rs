//! A child process with a log of its own, stopped whatever happens.

use crate::Settings;
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(20);
const LOG_LINES_SHOWN: usize = 15;

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The process's name in messages, and of its log file.
    pub name: &'a str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub settings: &'a Settings,
    /// The folder of its log, and the one it runs in.
    pub folder: &'a Path,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a child; a log that is there already is continued.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    pub fn start(launch: &Launch<'_>) -> Result<Self> {
        let log = launch.folder.join(format!("{}.log", launch.name));
        let file = open_log(&log)?;
        let child = Command::new(&launch.program)
            .args(&launch.arguments)
            .envs(launch.settings.variables())
            .current_dir(launch.folder)
            .stdin(Stdio::null())
            // A group of its own: Ctrl-C in a terminal reaches it through us.
            .process_group(0)
            .stderr(file.try_clone().context("share the log")?)
            .stdout(file)
            .spawn()
            .with_context(|| format!("start {}", launch.program.display()))?;
        Ok(Self { name: launch.name.to_owned(), child, log })
    }

    /// The child's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// # Errors
    /// When the child has ended, with the last lines of its log.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after a child")? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; {}", self.name, self.last_lines()),
        }
    }

    /// Waits until `ready` succeeds; fails at once when the child ends.
    ///
    /// # Errors
    /// When the child ends or is not ready by the deadline: with its last lines.
    pub async fn wait_ready(
        &mut self,
        deadline: Duration,
        mut ready: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(reason) = ready().await else { return Ok(()) };
            self.must_run()?;
            if begun.elapsed() >= deadline {
                bail!("{} is not ready after {deadline:?}: {reason:#}; {}", self.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to stop, and kills it when it has not by the deadline.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        let begun = Instant::now();
        while begun.elapsed() < deadline {
            if let Some(status) = self.child.try_wait().context("wait for a child")? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        self.kill()?;
        bail!("{} did not stop within {deadline:?} and was killed; {}", self.name, self.last_lines())
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().context("wait for a killed child")?;
        Ok(())
    }

    /// Sends a signal by its name: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// When the child has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        self.must_run()?;
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        match sent.context("run kill")? {
            status if status.success() => Ok(()),
            _ => self.must_run(),
        }
    }

    /// Lets it run on after this value is gone.
    pub fn leave_running(self) {
        // Only `Drop` would kill the child: the standard library does not.
        std::mem::forget(self);
    }

    fn last_lines(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        let shown = lines.get(from..).unwrap_or_default().join("\n");
        format!("the end of {}:\n{shown}", self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is wanted.
        self.kill().ok();
    }
}

fn open_log(log: &Path) -> Result<File> {
    let folder = log.parent().context("a log has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))
}
