### Nextcloud Mail: Vacation Responder ### DON'T EDIT ###
require "date";
require "relational";
require "vacation";
### Nextcloud Mail: Vacation Responder ### DON'T EDIT ###
### Nextcloud Mail: Filters ### DON'T EDIT ###
require ["fileinto", "imap4flags"];
### Nextcloud Mail: Filters ### DON'T EDIT ###

### Nextcloud Mail: Filters ### DON'T EDIT ###
# FILTER: [{"name":"Adverts","enable":true,"operator":"anyof"}]
# Adverts
if anyof (header :contains "Subject" ["未承諾広告", "prize draw"], address :matches :all "From" ["*@spam.example", "*.bulk.example"]) {
	fileinto "Spam";
	stop;
}
# Exact sender
if address :is :all "From" ["noreply@shop.example"] {
	fileinto "Trash";
	stop;
}
# Whole subject
if header :is "Subject" ["Hello"] {
	fileinto "Junk";
}
# Label
if header :contains "Subject" ["report"] {
	addflag "$report";
}
# Recipients
if address :is :all "To" ["team@east.example.jp"] {
	fileinto "Team";
	stop;
}
### Nextcloud Mail: Filters ### DON'T EDIT ###
### Nextcloud Mail: Vacation Responder ### DON'T EDIT ###
# DATA: {"version":1,"enabled":true}
if allof(currentdate :value "ge" "iso8601" "2026-12-27T15:00:00Z", currentdate :value "le" "iso8601" "2027-01-04T14:59:59Z") {
	vacation :days 4 :subject "Away" :addresses ["Taro <taro@east.example.jp>"] "I am away.
\"Quoted\" \\ text";
}
### Nextcloud Mail: Vacation Responder ### DON'T EDIT ###
