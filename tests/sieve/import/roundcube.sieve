require ["copy","date","envelope","fileinto","imap4flags","relational","vacation","variables"];
# rule:[away]
if allof (currentdate :zone "+0900" :value "ge" "date" "2026-12-28", currentdate :zone "+0900" :value "le" "date" "2027-01-04")
{
	vacation :days 7 :addresses ["t.yamada@east.example.jp"] :subject "Away: ${subject}" text:
Back on 5 January.
..signed
.
;
}
# rule:[adverts]
if anyof (header :contains "subject" ["未承諾広告","[広告]"], address :domain :is "from" "spam.example", not exists "from")
{
	fileinto "Junk";
	stop;
}
# rule:[one sender]
if address :all :is "from" "noreply@shop.example"
{
	discard;
	stop;
}
# rule:[lottery, off]
if false # header :contains "subject" "lottery"
{
	fileinto "Junk";
	stop;
}
# rule:[bulk]
if header :contains "from" "bulk"
{
	fileinto "Junk";
	stop;
}
# rule:[invoices]
if allof (header :contains "subject" ["請求書","invoice"], address :matches "from" "*@supplier.example", size :over 10K)
{
	redirect :copy "keiri@example.net";
	stop;
}
# rule:[large]
if size :over 5M
{
	redirect "archive@example.net";
	redirect "second@example.net";
	addflag "\\Seen";
	stop;
}
# rule:[lists]
if header :contains "list-id" "users.example"
{
	fileinto "Lists";
	stop;
}
# rule:[behind the lists]
if header :contains "subject" "behind"
{
	redirect "behind@example.net";
	stop;
}
