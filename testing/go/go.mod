module countersign/countersigntest

go 1.23
