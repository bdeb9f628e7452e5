"use strict";

// Transaction codes: eight characters and one that checks them, written K3Q-F7H-2MX. A slip of the pen is found here, at once.
(function (Loyalty) {
  const ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ";
  const LENGTH = 9;

  // The code in its written form, or null.
  Loyalty.parseCode = function (text) {
    const plain = text.toUpperCase().replace(/[\s-]/g, "");
    const values = Array.from(plain).map(function (character) { return ALPHABET.indexOf(character); });
    if (values.length !== LENGTH || values.indexOf(-1) >= 0) {
      return null;
    }
    const sum = values.slice(0, -1).reduce(function (total, value, i) { return total + (i + 2) * value; }, 0);
    return sum % ALPHABET.length === values[LENGTH - 1] ? plain.replace(/(...)(?=.)/g, "$1-") : null;
  };
}(window.Loyalty = window.Loyalty || {}));
