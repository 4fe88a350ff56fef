//! The terminal: a screen of its own while the program runs, and keys.

use std::io::{IsTerminal, Stdout, Write, stdout};
use std::time::Duration;

use anyhow::{Result, ensure};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// To show the latest numbers now.
    Refresh,
    End,
}

/// The screen. Dropping it leaves the terminal as it was.
pub(super) struct Screen(Stdout);

impl Screen {
    pub(super) fn open() -> Result<Self> {
        ensure!(stdout().is_terminal(), "standard output goes elsewhere");
        enable_raw_mode()?;
        let mut screen = Self(stdout());
        execute!(screen.0, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    pub(super) fn show(&mut self, text: &str) -> Result<()> {
        queue!(self.0, MoveTo(0, 0))?;
        for line in text.lines() {
            // In raw mode a new line goes down only.
            write!(self.0, "{line}")?;
            queue!(self.0, Clear(ClearType::UntilNewLine))?;
            write!(self.0, "\r\n")?;
        }
        queue!(self.0, Clear(ClearType::FromCursorDown))?;
        Ok(self.0.flush()?)
    }

    /// The next key within `time`.
    pub(super) fn key(&self, time: Duration) -> Result<Option<Key>> {
        if !poll(time)? {
            return Ok(None);
        }
        let Event::Key(key) = read()? else { return Ok(Some(Key::Refresh)) };
        let interrupted =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        let ends = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || interrupted;
        Ok(Some(if ends { Key::End } else { Key::Refresh }))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = execute!(self.0, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
