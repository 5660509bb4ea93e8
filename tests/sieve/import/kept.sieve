require ["fileinto", "reject", "comparator-i;octet"];
/* A script written by hand: who is kept from the rules below, ways to throw mail away,
   and tests that settings do not have. */
if address :is "from" ["boss@example.com", "wife@example.net"] { keep; stop; }
if anyof (header :is "subject" "", not exists "subject", header :matches "subject" "*prize*") { discard; }
if address :matches "from" "*.bulk.example" { reject "No advertisements, please."; stop; }
if address :localpart :is "from" "info" { fileinto "Junk"; stop; }
if header :contains ["subject", "comments"] "offer" { fileinto "Junk"; stop; }
if header :comparator "i;octet" :contains "subject" "SALE" { fileinto "Junk"; stop; }
if allof (header :contains "subject" "ab", header :contains "subject" "cd") { fileinto "Junk"; stop; }
if not address :domain :is "from" "example.jp" { fileinto "Junk"; stop; }
