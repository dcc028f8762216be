//! From bytes to a handler's parameter, and from what it returns to bytes. Nothing here knows the host.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::request::Request;
use crate::response::Response;

/// The content of a message as it is.
pub type Bytes = Vec<u8>;

/// A value that travels as JSON.
///
/// As a parameter it decodes the content; a mistake in it rejects the message (400) with the path of the field, as in
/// `items[2].count: invalid type: string "x", expected u32 at line 1 column 40`. As a result it is the reply, with
/// content type `application/json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a handler can take: the content of a message, decoded.
///
/// Implement it for a type of your own to teach handlers another format.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a handler",
    label = "not the content of a message",
    note = "a handler takes at most one content (`Json<T>` with `T: Deserialize`, `Vec<u8>`, `String`, `Request`) and `&Context`"
)]
pub trait FromRequest: Sized {
    /// Decodes the content.
    ///
    /// # Errors
    /// Usually [`Error::rejected`], since what can't be decoded now will not be decodable later.
    fn from_request(request: Request) -> Result<Self, Error>;
}

/// What a handler can return: a reply, no reply, or an error.
///
/// Implement it for a type of your own to teach handlers another format.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a handler",
    label = "not a reply",
    note = "a handler returns nothing, `Json<T>` with `T: Serialize`, `Response`, `Vec<u8>`, `String`, an `Option` of these, or a `Result` of these"
)]
pub trait IntoResponse {
    /// Encodes the reply; `None` is an empty success.
    ///
    /// # Errors
    /// What the handler returned as its error, or [`Error::failed`] if the value can't be encoded.
    fn into_response(self) -> Result<Option<Response>, Error>;
}

impl FromRequest for Request {
    fn from_request(request: Request) -> Result<Self, Error> {
        Ok(request)
    }
}

impl FromRequest for Vec<u8> {
    fn from_request(request: Request) -> Result<Self, Error> {
        Ok(request.content)
    }
}

impl FromRequest for String {
    fn from_request(request: Request) -> Result<Self, Error> {
        Self::from_utf8(request.content)
            .map_err(|error| Error::rejected(format!("content is not text: {error}")))
    }
}

/// `None` if the message has no content.
impl<T: FromRequest> FromRequest for Option<T> {
    fn from_request(request: Request) -> Result<Self, Error> {
        if request.content.is_empty() {
            return Ok(None);
        }
        T::from_request(request).map(Some)
    }
}

impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: Request) -> Result<Self, Error> {
        decode(&request.content).map(Self).map_err(Error::rejected)
    }
}

/// Reads JSON; the error says where in the document it is.
pub(crate) fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    // Keeping the path costs time for every field, so it is only looked for once there is known to be a mistake.
    if let Ok(value) = serde_json::from_slice(content) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_slice(content);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            // The mistake is in the document as a whole.
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

impl IntoResponse for () {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Ok(None)
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Ok(Some(self))
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Ok(Some(
            Response::new(self).content_type("application/octet-stream"),
        ))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Ok(Some(Response::text(self)))
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Ok(Some(Response::text(self)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Result<Option<Response>, Error> {
        Response::json(&self.0).map(Some)
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Result<Option<Response>, Error> {
        self.map_or(Ok(None), T::into_response)
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Result<Option<Response>, Error> {
        self.map_err(Into::into)?.into_response()
    }
}
