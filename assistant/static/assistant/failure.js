// An error, and what the user can do about it.

import { Refused } from "./api.js";
import { $, announce, copyOf, signInAddress } from "./dom.js";

// Return an element that shows an error. `again`, if given, is called to retry.
export function failure(error, again = null) {
  const element = copyOf("failure");
  const sentence = error.retryAfter ? `${error.message} Try again in ${error.retryAfter} s.` : error.message;
  $(".sentence", element).textContent = sentence;
  $(".again", element).hidden = !again;
  $(".again", element).addEventListener("click", () => {
    element.remove();
    again();
  });
  $(".sign-in", element).hidden = !(error instanceof Refused && [401, 403].includes(error.status));
  $(".sign-in", element).href = signInAddress();
  announce(sentence);
  return element;
}
