//! `countersign device watch`: asks the person about each challenge that comes.

use std::collections::HashSet;
use std::time::Duration;

use device::{Answer, Enrollment, Error, ShownChallenge};

use crate::device::input::Input;
use crate::device::phones::Handset;
use crate::device::screen::waiting;
use crate::failure::Failure;
use crate::terminal::{prompt, say, say_text};

/// Whether to go on.
enum Flow {
    Continue,
    End,
}

/// What the person wants.
enum Wish {
    Answer(Answer),
    Skip,
}

struct Watch {
    input: Input,
    /// SIDs of the challenges that the person was asked about.
    asked: HashSet<String>,
    /// Servers that don't answer at the moment, and factors that they refuse: said once, not at every look.
    troubles: HashSet<String>,
}

/// Looks, asks and looks again until Ctrl-C or the end of input.
pub(super) async fn run(handsets: Vec<Handset>, interval: Duration) -> Result<(), Failure> {
    for handset in &handsets {
        say(format_args!("Watching {} at {}", handset.title(), handset.enrollment.base_url))?;
    }
    say_text("Press Ctrl-C to end.\n")?;
    let mut watch = Watch { input: Input::standard(), asked: HashSet::new(), troubles: HashSet::new() };
    tokio::select! {
        outcome = watch.go(&handsets, interval) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            // The terminal has just shown ^C behind a question.
            say("")
        }
    }
}

impl Watch {
    async fn go(&mut self, handsets: &[Handset], interval: Duration) -> Result<(), Failure> {
        loop {
            for handset in handsets {
                if let Flow::End = self.look(handset).await? {
                    return Ok(());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.input.ended() => return Ok(()),
            }
        }
    }

    /// Asks about what is new, oldest first.
    async fn look(&mut self, handset: &Handset) -> Result<Flow, Failure> {
        let list = match handset.pending().await {
            Ok(list) => list,
            Err(error) => {
                self.trouble(handset, error)?;
                return Ok(Flow::Continue);
            }
        };
        let Enrollment { base_url, factor_sid, .. } = &handset.enrollment;
        if self.troubles.remove(base_url) | self.troubles.remove(factor_sid) {
            say_text(format!("{}: the server answers again.\n", handset.title()))?;
        }
        for challenge in list.challenges.iter().rev() {
            if self.asked.insert(challenge.sid.clone())
                && let Flow::End = self.ask(handset, challenge).await?
            {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::Continue)
    }

    fn trouble(&mut self, handset: &Handset, error: Error) -> Result<(), Failure> {
        let Enrollment { base_url, factor_sid, .. } = &handset.enrollment;
        let whose = if matches!(error, Error::Transport(_)) { base_url } else { factor_sid };
        if self.troubles.insert(whose.clone()) {
            say_text(format!("{}: {}. Trying again.\n", handset.title(), handset.explain(error)))?;
        }
        Ok(())
    }

    async fn ask(&mut self, handset: &Handset, challenge: &ShownChallenge) -> Result<Flow, Failure> {
        if challenge.expires_at <= handset.now() {
            return Ok(Flow::Continue);
        }
        self.input.forget_what_was_typed();
        say(handset.title())?;
        say_text(waiting(challenge, handset.now()).trim_end())?;
        match self.wish().await? {
            None => return Ok(Flow::End),
            Some(Wish::Skip) => say_text("Skipped.\n")?,
            Some(Wish::Answer(answer)) => self.answer(handset, challenge, answer).await?,
        }
        Ok(Flow::Continue)
    }

    /// What the person answers; `None` at the end of input.
    async fn wish(&mut self) -> Result<Option<Wish>, Failure> {
        loop {
            prompt("Approve? y(es), n(o), s(kip):")?;
            let Some(line) = self.input.line().await else {
                say("")?;
                return Ok(None);
            };
            if !self.input.is_terminal() {
                say(&line)?;
            }
            match line.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(Some(Wish::Answer(Answer::Approved))),
                "n" | "no" => return Ok(Some(Wish::Answer(Answer::Denied))),
                "s" | "skip" => return Ok(Some(Wish::Skip)),
                _ => {}
            }
        }
    }

    async fn answer(
        &mut self,
        handset: &Handset,
        challenge: &ShownChallenge,
        answer: Answer,
    ) -> Result<(), Failure> {
        match handset.phone.answer(&handset.enrollment, &challenge.sid, answer).await {
            Ok(answered) => say_text(format!("It is {}.\n", answered.status.as_str())),
            // Nobody knows whether it arrived. If it did, the challenge is not pending any more.
            Err(error @ Error::Transport(_)) => {
                self.asked.remove(&challenge.sid);
                say_text(format!("{}. You will be asked again.\n", handset.explain(error)))
            }
            Err(error) => say_text(format!("{}.\n", handset.explain(error))),
        }
    }
}
