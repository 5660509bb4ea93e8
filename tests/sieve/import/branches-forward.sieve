require ["fileinto", "vacation", "date", "relational"];
# Of a chain one branch is done: a mail that is forwarded is neither held nor answered below.
if header :contains "subject" "invoice" {
    redirect "billing@else.example";
} elsif header :contains "subject" "voice" {
    discard;
} elsif currentdate :value "ge" "date" "2026-12-28" {
    vacation "I am away.";
} elsif address :matches "from" "*@spam.example" {
    redirect "second@else.example";
}
# No address is just this.
if address :is "from" "example" { discard; }
if address :is "from" "@bulk.example" { discard; }
