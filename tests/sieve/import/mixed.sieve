require ["fileinto", "vacation", "copy", "imap4flags", "variables", "date", "relational"];
# What looks alike and is not.
if header :contains "subject" "away" {
    vacation "I am away.";
    redirect :copy "first@example.net";
}
if currentdate :value "ge" "date" "2026-12-28" {
    vacation "I am away.";
    discard;
}
if address :is "from" "info@else.example" {
    fileinto "Lists";
} elsif header :contains "subject" "hello" {
    redirect "second@example.net";
} else {
    redirect "third@example.net";
}
if header :matches "subject" "*" { set "subject" "${1}"; }
elsif size :over 1K { redirect "fourth@example.net"; }
if header :contains "subject" "${subject}" { discard; }
setflag "\\Seen";
