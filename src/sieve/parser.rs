//! From words to commands (RFC 5228 section 8.2). Linear; nesting is bounded.

use super::lexer::{Lexer, SyntaxError, Token};
use super::script::{Argument, Node, Place, Script, Tests};

/// Blocks and tests within each other: what a person or an editor writes needs a handful, and
/// the stack of a parser has an end (Pigeonhole stops at 32 likewise).
const MAX_NESTING: usize = 32;

/// Reads a script.
///
/// # Errors
/// The first place where the text is no Sieve.
pub fn parse(text: &str) -> Result<Script, SyntaxError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        comments: Vec::new(),
        ahead: (Place::default(), Token::End),
        depth: 0,
    };
    parser.step()?;
    let commands = parser.commands()?;
    match &parser.ahead {
        (_, Token::End) => Ok(Script { commands }),
        (place, _) => Err(SyntaxError::new(*place, "a `}` that closes nothing")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Lines of comment since the last command.
    comments: Vec<String>,
    ahead: (Place, Token),
    depth: usize,
}

impl Parser<'_> {
    /// Up to the end or a `}`.
    fn commands(&mut self) -> Result<Vec<Node>, SyntaxError> {
        let mut commands: Vec<Node> = Vec::new();
        loop {
            let (place, token) = self.ahead.clone();
            match token {
                Token::Identifier(name)
                    if matches!(name.as_str(), "elsif" | "else")
                        && !commands
                            .last()
                            .is_some_and(|last| matches!(last.name.as_str(), "if" | "elsif")) =>
                {
                    let message = format!("`{name}` stands behind an `if` or `elsif` only");
                    return Err(SyntaxError::new(place, message));
                }
                Token::End | Token::Mark('}') => {
                    self.comments.clear();
                    return Ok(commands);
                }
                Token::Identifier(name) => {
                    self.step()?;
                    commands.push(self.command(place, name)?);
                }
                _ => return Err(SyntaxError::new(place, "a command is wanted here")),
            }
        }
    }

    fn command(&mut self, place: Place, name: String) -> Result<Node, SyntaxError> {
        let comments = std::mem::take(&mut self.comments);
        let mut node = self.word(place, name)?;
        node.comments = comments;
        match self.ahead {
            (_, Token::Mark(';')) => self.step()?,
            (at, Token::Mark('{')) => {
                self.enter(at)?;
                self.step()?;
                let block = self.commands()?;
                self.expect('}', "a `}` is wanted: a block is open")?;
                self.depth -= 1;
                node.block = Some(block);
            }
            (at, _) => {
                let message = format!("a `;` or a block is wanted behind `{}`", node.name);
                return Err(SyntaxError::new(at, message));
            }
        }
        Ok(node)
    }

    /// A word with its arguments and tests.
    fn word(&mut self, place: Place, name: String) -> Result<Node, SyntaxError> {
        let mut node = Node {
            place,
            name,
            ..Node::default()
        };
        loop {
            let (at, token) = self.ahead.clone();
            match token {
                Token::Tag(tag) => node.arguments.push(Argument::Tag(tag)),
                Token::Number(number) => node.arguments.push(Argument::Number(number)),
                Token::Text(text) => node.arguments.push(Argument::Strings(vec![text])),
                Token::Mark('[') => {
                    self.step()?;
                    let texts = self.string_list()?;
                    node.arguments.push(Argument::Strings(texts));
                    continue;
                }
                Token::Mark('(') => {
                    self.enter(at)?;
                    self.step()?;
                    node.tests = Tests::List(self.test_list()?);
                    self.depth -= 1;
                    return Ok(node);
                }
                Token::Identifier(name) => {
                    self.enter(at)?;
                    self.step()?;
                    node.tests = Tests::One(Box::new(self.word(at, name)?));
                    self.depth -= 1;
                    return Ok(node);
                }
                _ => return Ok(node),
            }
            self.step()?;
        }
    }

    fn string_list(&mut self) -> Result<Vec<String>, SyntaxError> {
        let mut texts = Vec::new();
        loop {
            match std::mem::replace(&mut self.ahead, (Place::default(), Token::End)) {
                (_, Token::Text(text)) => texts.push(text),
                (place, _) => return Err(SyntaxError::new(place, "a string is wanted here")),
            }
            self.step()?;
            if !self.comma(']', "a `,` or a `]` is wanted behind a string of a list")? {
                return Ok(texts);
            }
        }
    }

    fn test_list(&mut self) -> Result<Vec<Node>, SyntaxError> {
        let mut tests = Vec::new();
        loop {
            let (place, token) = self.ahead.clone();
            let Token::Identifier(name) = token else {
                return Err(SyntaxError::new(place, "a test is wanted here"));
            };
            self.step()?;
            tests.push(self.word(place, name)?);
            if !self.comma(')', "a `,` or a `)` is wanted behind a test of a list")? {
                return Ok(tests);
            }
        }
    }

    /// Whether a list goes on; steps over the mark.
    fn comma(&mut self, end: char, wanted: &str) -> Result<bool, SyntaxError> {
        match self.ahead {
            (_, Token::Mark(',')) => {
                self.step()?;
                Ok(true)
            }
            _ => self.expect(end, wanted).map(|()| false),
        }
    }

    fn expect(&mut self, mark: char, wanted: &str) -> Result<(), SyntaxError> {
        match self.ahead {
            (_, Token::Mark(found)) if found == mark => self.step(),
            (place, _) => Err(SyntaxError::new(place, wanted)),
        }
    }

    fn enter(&mut self, place: Place) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            let message = format!("nested deeper than {MAX_NESTING}");
            return Err(SyntaxError::new(place, message));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.ahead = self.lexer.next()?;
            match &mut self.ahead.1 {
                Token::Comment(lines) => self.comments.append(lines),
                _ => return Ok(()),
            }
        }
    }
}
