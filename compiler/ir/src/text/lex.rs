//! Splits a text into tokens with positions. Newlines are plain white space; `//` begins a comment.

use super::{ParseError, Position};

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// `graph`, `f32`, `N`, `batch_norm`; may contain dots.
    Ident(String),
    /// `%name` or `%"any name"`; an anonymous `%7` begins with [`ANONYMOUS`], which no name contains.
    Value(String),
    /// `@name` or `@"any name"`.
    Global(String),
    /// An integer or float as written.
    Number(String),
    Str(String),
    Punct(char),
    End,
}

impl Token {
    /// How a message names the token.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Ident(s) => format!("`{s}`"),
            Token::Value(s) => format!("`%{}`", s.trim_start_matches(ANONYMOUS)),
            Token::Global(s) => format!("`@{s}`"),
            Token::Number(s) => format!("`{s}`"),
            Token::Str(_) => "a string".to_owned(),
            Token::Punct(c) => format!("`{c}`"),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// Sets anonymous values apart from those that are named by digits.
pub(super) const ANONYMOUS: char = '\0';

pub(super) struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Position,
}

/// Whether a name prints without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.bytes().all(|b| b.is_ascii_digit()) && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), at: Position { line: 1, column: 1 } }
    }

    pub(super) fn next(&mut self) -> Result<(Position, Token), ParseError> {
        self.skip_space();
        let at = self.at;
        let Some(c) = self.bump() else { return Ok((at, Token::End)) };
        let token = match c {
            '%' => Token::Value(self.name(at)?),
            '@' => Token::Global(self.name(at)?),
            '"' if self.eat_quotes() => Token::Str(self.long_string(at)?),
            '"' => Token::Str(self.string(at)?),
            c if c.is_ascii_alphabetic() || c == '_' => {
                Token::Ident(self.word(c, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
            }
            c if c.is_ascii_digit() => Token::Number(self.number(c)),
            c => Token::Punct(c),
        };
        Ok((at, token))
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Position { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(c)
    }

    fn skip_space(&mut self) {
        loop {
            while self.rest.peek().is_some_and(|c| c.is_whitespace()) {
                self.bump();
            }
            let mut ahead = self.rest.clone();
            if !(ahead.next() == Some('/') && ahead.next() == Some('/')) {
                return;
            }
            while self.rest.peek().is_some_and(|&c| c != '\n') {
                self.bump();
            }
        }
    }

    fn word(&mut self, first: char, more: impl Fn(char) -> bool) -> String {
        let mut word = String::from(first);
        while let Some(&c) = self.rest.peek().filter(|&&c| more(c)) {
            word.push(c);
            self.bump();
        }
        word
    }

    /// Digits, a fraction and an exponent; a sign belongs to the parser except inside the exponent.
    fn number(&mut self, first: char) -> String {
        let mut text = self.word(first, |c| c.is_ascii_digit());
        if self.rest.peek() == Some(&'.') {
            self.bump();
            text.push('.');
            text.push_str(&self.word('0', |c| c.is_ascii_digit())[1..]);
        }
        if let Some(&e) = self.rest.peek().filter(|c| matches!(c, 'e' | 'E')) {
            self.bump();
            text.push(e);
            if let Some(&sign) = self.rest.peek().filter(|c| matches!(c, '+' | '-')) {
                self.bump();
                text.push(sign);
            }
            text.push_str(&self.word('0', |c| c.is_ascii_digit())[1..]);
        }
        text
    }

    fn name(&mut self, at: Position) -> Result<String, ParseError> {
        if self.rest.peek() == Some(&'"') {
            self.bump();
            return self.string(at);
        }
        let name = self.word('%', is_name_char)[1..].to_owned();
        if name.is_empty() {
            return Err(ParseError { at, message: "expected a name after this sign".to_owned() });
        }
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(format!("{ANONYMOUS}{name}"));
        }
        Ok(name)
    }

    /// Whether two more quotes follow, which are taken then.
    fn eat_quotes(&mut self) -> bool {
        let mut ahead = self.rest.clone();
        let follows = ahead.next() == Some('"') && ahead.next() == Some('"');
        if follows {
            self.bump();
            self.bump();
        }
        follows
    }

    /// The rest of a string between three quotes each: as it stands, without escapes.
    fn long_string(&mut self, at: Position) -> Result<String, ParseError> {
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if c == '"' && self.eat_quotes() {
                return Ok(text);
            }
            text.push(c);
        }
        Err(ParseError { at, message: "this string is not closed".to_owned() })
    }

    /// The rest of a string after its opening quote. Escapes: `\n \t \r \" \\ \u{hex}`.
    fn string(&mut self, at: Position) -> Result<String, ParseError> {
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(ParseError { at, message: "this string is not closed".to_owned() }),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(ANONYMOUS) => return Err(ParseError { at, message: "a string holds no NUL".to_owned() }),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let at = self.at;
        let wrong = || ParseError { at, message: "unknown escape; known are \\n \\t \\r \\\" \\\\ \\u{..}".to_owned() };
        match self.bump() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some(c @ ('"' | '\\' | '\'')) => Ok(c),
            Some('u') if self.bump() == Some('{') => {
                let hex = self.word('0', |c| c.is_ascii_hexdigit());
                let code = u32::from_str_radix(&hex, 16)
                    .ok()
                    .and_then(char::from_u32)
                    .filter(|&c| c != ANONYMOUS)
                    .ok_or_else(wrong)?;
                if self.bump() == Some('}') { Ok(code) } else { Err(wrong()) }
            }
            _ => Err(wrong()),
        }
    }
}
