//! A conversation on the terminal: a line of stdin is a message, the answer streams to stdout.

use std::io::{self, BufRead, IsTerminal, Write};

use sbnc_runtime::Session;
use sbnc_runtime::sampling::Sampling;
use sbnc_runtime::text::Message;

use super::{Run, tell, write};
use crate::error::{Error, Exit, Result};

impl Run {
    pub(super) fn converse(&self, session: &mut Session) -> Result<()> {
        let model = session.model().clone();
        // Before the first message is typed.
        if model.tokenizer()?.chat_template().is_none() {
            let message = format!("{}: no chat template in the file; give --prompt instead", self.file.display());
            return Err(Error::new(Exit::Unsupported, message));
        }
        let sampling = self.choosing.sampling(&model)?;
        let mut messages: Vec<Message> = self.system.iter().map(Message::system).collect();
        let mut lines = io::stdin().lock().lines();
        loop {
            if io::stdin().is_terminal() && io::stderr().is_terminal() {
                eprint!("> ");
                let _ = io::stderr().flush();
            }
            let Some(line) = lines.next() else { return Ok(()) };
            let line = line.map_err(|e| match e.kind() {
                io::ErrorKind::InvalidData => {
                    Error::new(Exit::Invalid, "stdin: expected UTF-8 text, found other bytes")
                }
                _ => Error::new(Exit::Io, format!("stdin: {e}")),
            })?;
            if line.trim().is_empty() {
                continue;
            }
            messages.push(Message::user(line));
            let answer = crate::interrupt::deferred(|| self.answer(session, &messages, &sampling))?;
            let Some(answer) = answer else { return Ok(()) };
            messages.push(Message::assistant(answer));
        }
    }

    /// Streams the answer; `None` if nobody reads it.
    fn answer(&self, session: &mut Session, messages: &[Message], sampling: &Sampling) -> Result<Option<String>> {
        let mut generation = self.settings(session.chat(messages, sampling)?)?;
        let mut out = io::stdout().lock();
        let mut answer = String::new();
        for piece in &mut generation {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    write(&mut out, "\n")?;
                    return Err(error.into());
                }
            };
            answer.push_str(&piece.text);
            if !piece.text.is_empty() && !write(&mut out, &piece.text)? {
                return Ok(None);
            }
        }
        let read = write(&mut out, "\n")?;
        tell(&generation.usage());
        Ok(read.then_some(answer))
    }
}
